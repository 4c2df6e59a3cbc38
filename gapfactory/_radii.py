"""Tabulated radii of the elements in Å. Data only; `gapfactory.elements` is the interface.

Covalent radii
    B. Cordero et al., Dalton Trans. 2832 (2008), doi:10.1039/b801115j, hydrogen to curium (C: sp3; Mn, Fe, Co: low
    spin). The same numbers as `ase.data.covalent_radii`, against which the tests compare them.

Metallic radii, twelvefold coordination
    L. Pauling, J. Am. Chem. Soc. 69, 542 (1947), doi:10.1021/ja01195a024, to 0.01 Å as listed by the Python
    package mendeleev 1.3 (`metallic_radius_c12`); metals and metalloids only. Lanthanides: B. J. Beaudry and K. A.
    Gschneidner, Handbook on the Physics and Chemistry of Rare Earths, vol. 1, p. 173 (1978), 12-coordinate radii;
    that of holmium follows from the lattice constants of the hcp metal. The tests compare every fcc, hcp and bcc
    metal with the close-packed radius of the metal's own atomic volume.
"""

from __future__ import annotations

__all__ = ["COVALENT", "METALLIC", "SYMBOLS"]

# fmt: off
#: chemical symbols; the element of atomic number Z is ``SYMBOLS[Z - 1]``
SYMBOLS: tuple[str, ...] = (
    "H", "He", "Li", "Be", "B", "C", "N", "O", "F", "Ne", "Na", "Mg", "Al", "Si", "P", "S", "Cl", "Ar", "K",
    "Ca", "Sc", "Ti", "V", "Cr", "Mn", "Fe", "Co", "Ni", "Cu", "Zn", "Ga", "Ge", "As", "Se", "Br", "Kr",
    "Rb", "Sr", "Y", "Zr", "Nb", "Mo", "Tc", "Ru", "Rh", "Pd", "Ag", "Cd", "In", "Sn", "Sb", "Te", "I",
    "Xe", "Cs", "Ba", "La", "Ce", "Pr", "Nd", "Pm", "Sm", "Eu", "Gd", "Tb", "Dy", "Ho", "Er", "Tm", "Yb",
    "Lu", "Hf", "Ta", "W", "Re", "Os", "Ir", "Pt", "Au", "Hg", "Tl", "Pb", "Bi", "Po", "At", "Rn", "Fr",
    "Ra", "Ac", "Th", "Pa", "U", "Np", "Pu", "Am", "Cm", "Bk", "Cf", "Es", "Fm", "Md", "No", "Lr", "Rf",
    "Db", "Sg", "Bh", "Hs", "Mt", "Ds", "Rg", "Cn", "Nh", "Fl", "Mc", "Lv", "Ts", "Og",
)

COVALENT: dict[str, float] = {
    "H": 0.31, "He": 0.28, "Li": 1.28, "Be": 0.96, "B": 0.84, "C": 0.76, "N": 0.71, "O": 0.66, "F": 0.57,
    "Ne": 0.58, "Na": 1.66, "Mg": 1.41, "Al": 1.21, "Si": 1.11, "P": 1.07, "S": 1.05, "Cl": 1.02,
    "Ar": 1.06, "K": 2.03, "Ca": 1.76, "Sc": 1.70, "Ti": 1.60, "V": 1.53, "Cr": 1.39, "Mn": 1.39,
    "Fe": 1.32, "Co": 1.26, "Ni": 1.24, "Cu": 1.32, "Zn": 1.22, "Ga": 1.22, "Ge": 1.20, "As": 1.19,
    "Se": 1.20, "Br": 1.20, "Kr": 1.16, "Rb": 2.20, "Sr": 1.95, "Y": 1.90, "Zr": 1.75, "Nb": 1.64,
    "Mo": 1.54, "Tc": 1.47, "Ru": 1.46, "Rh": 1.42, "Pd": 1.39, "Ag": 1.45, "Cd": 1.44, "In": 1.42,
    "Sn": 1.39, "Sb": 1.39, "Te": 1.38, "I": 1.39, "Xe": 1.40, "Cs": 2.44, "Ba": 2.15, "La": 2.07,
    "Ce": 2.04, "Pr": 2.03, "Nd": 2.01, "Pm": 1.99, "Sm": 1.98, "Eu": 1.98, "Gd": 1.96, "Tb": 1.94,
    "Dy": 1.92, "Ho": 1.92, "Er": 1.89, "Tm": 1.90, "Yb": 1.87, "Lu": 1.87, "Hf": 1.75, "Ta": 1.70,
    "W": 1.62, "Re": 1.51, "Os": 1.44, "Ir": 1.41, "Pt": 1.36, "Au": 1.36, "Hg": 1.32, "Tl": 1.45,
    "Pb": 1.46, "Bi": 1.48, "Po": 1.40, "At": 1.50, "Rn": 1.50, "Fr": 2.60, "Ra": 2.21, "Ac": 2.15,
    "Th": 2.06, "Pa": 2.00, "U": 1.96, "Np": 1.90, "Pu": 1.87, "Am": 1.80, "Cm": 1.69,
}

METALLIC: dict[str, float] = {
    # Pauling 1947
    "Li": 1.55, "Be": 1.12, "B": 0.98, "Na": 1.90, "Mg": 1.60, "Al": 1.43, "Si": 1.38, "K": 2.35,
    "Ca": 1.97, "Sc": 1.62, "Ti": 1.47, "V": 1.34, "Cr": 1.28, "Mn": 1.27, "Fe": 1.26, "Co": 1.25,
    "Ni": 1.24, "Cu": 1.28, "Zn": 1.34, "Ga": 1.40, "Ge": 1.44, "As": 1.48, "Rb": 2.48, "Sr": 2.15,
    "Y": 1.80, "Zr": 1.60, "Nb": 1.46, "Mo": 1.39, "Tc": 1.36, "Ru": 1.34, "Rh": 1.34, "Pd": 1.37,
    "Ag": 1.44, "Cd": 1.51, "In": 1.58, "Sn": 1.63, "Sb": 1.66, "Te": 1.60, "Cs": 2.67, "Ba": 2.22,
    "Hf": 1.59, "Ta": 1.46, "W": 1.39, "Re": 1.37, "Os": 1.35, "Ir": 1.36, "Pt": 1.39, "Au": 1.44,
    "Hg": 1.51, "Tl": 1.60, "Pb": 1.70, "Bi": 1.78,
    # Beaudry and Gschneidner 1978
    "La": 1.879, "Ce": 1.825, "Pr": 1.828, "Nd": 1.821, "Sm": 1.804, "Eu": 2.042, "Gd": 1.801, "Tb": 1.783,
    "Dy": 1.774, "Ho": 1.766, "Er": 1.757, "Tm": 1.746, "Yb": 1.939, "Lu": 1.735,
}
# fmt: on
