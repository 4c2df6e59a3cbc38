"""Published crystal structures of the named phases: cells, sites, sources, and numbers to check them by.

Coordinates are those of the publications, in the setting named; nothing here is fitted or relaxed. The
published density or shortest contact, where the source prints it, is recomputed in the tests.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["MISSING", "RECORDS", "PhaseRecord"]


@dataclass(frozen=True)
class PhaseRecord:
    """One published crystal structure.

    Parameters
    ----------
    element, key, label
        Symbol, key (unique per element) and label for figures.
    space_group
        International Tables number.
    setting
        Origin choice, as `ase.spacegroup` counts it (1 or 2; 1 also stands for hexagonal axes).
    cell
        a, b, c in Å and alpha, beta, gamma in degrees, conventional cell.
    sites
        (Wyckoff symbol with its multiplicity, fractional x, y, z) of each independent atom.
    source
        The publication, and the compilation where its numbers were read.
    notes
        Conditions of the measurement, and what a reader should know.
    density
        g/cm^3 as printed by the source, or None.
    shortest_contact
        Å as printed by the source, or None.
    start_volume_factor
        Volume of the structure that curves start from, relative to the published cell: above 1 for phases
        that were measured under pressure, so that a curve is centred near zero pressure.
    site_labels
        Names of the independent atoms, in their order, where the literature names them; "" where it does not.
    """

    element: str
    key: str
    label: str
    space_group: int
    setting: int
    cell: tuple[float, float, float, float, float, float]
    sites: tuple[tuple[str, float, float, float], ...]
    source: str
    notes: str = ""
    density: float | None = None
    shortest_contact: float | None = None
    start_volume_factor: float = 1.0
    site_labels: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Unique name, e.g. ``"Si-diamond"``."""
        return f"{self.element}-{self.key}"

    @property
    def multiplicities(self) -> tuple[int, ...]:
        """Atoms on each site in the conventional cell, as the source's Wyckoff symbols say."""
        return tuple(int(site[0].rstrip("abcdefghijklmnopqrstuvwxyz")) for site in self.sites)

    @property
    def n_atoms(self) -> int:
        """Atoms in the primitive cell."""
        return sum(self.multiplicities) // _LATTICE_POINTS.get(self.space_group, 1)


#: lattice points in the conventional cell of the centred space groups below (hexagonal axes for R)
_LATTICE_POINTS = {63: 2, 64: 2, 141: 2, 166: 3, 227: 4, 229: 2}
_THIRD, _TWO_THIRDS = 1.0 / 3.0, 2.0 / 3.0

RECORDS: tuple[PhaseRecord, ...] = (
    PhaseRecord(
        "C",
        "diamond",
        "diamond",
        227,
        1,
        (3.56679, 3.56679, 3.56679, 90, 90, 90),
        (("8a", 0.0, 0.0, 0.0),),
        "R. W. G. Wyckoff, Crystal Structures 1 (1963) 7-83; AMCSD 0011242, COD 9008564",
    ),
    PhaseRecord(
        "C",
        "lonsdaleite",
        "lonsdaleite",
        194,
        1,
        (2.508, 2.508, 4.183, 90, 90, 120),
        (("4f", _THIRD, _TWO_THIRDS, 0.05995),),
        "A. Yoshiasa, Y. Murai, O. Ohtaka, T. Katsura, Jpn. J. Appl. Phys. 42 (2003) 1694; AFLOW A_hP4_194_f",
    ),
    PhaseRecord(
        "C",
        "graphite",
        "graphite",
        194,
        1,
        (2.464, 2.464, 6.711, 90, 90, 120),
        (("2b", 0.0, 0.0, 0.25), ("2c", _THIRD, _TWO_THIRDS, 0.25)),
        "P. Trucano, R. Chen, Nature 258 (1975) 136 (neutron diffraction); AFLOW A_hP4_194_bc",
        "Layers are held by dispersion: a reference functional without it does not bind them at this volume.",
    ),
    PhaseRecord(
        "Si",
        "diamond",
        "diamond",
        227,
        1,
        (5.43070, 5.43070, 5.43070, 90, 90, 90),
        (("8a", 0.0, 0.0, 0.0),),
        "R. W. G. Wyckoff, Crystal Structures 1 (1963) 7-83; AMCSD 0011243, COD 9008565",
    ),
    PhaseRecord(
        "Si",
        "beta-tin",
        "β-tin",
        141,
        1,
        (4.686, 4.686, 2.585, 90, 90, 90),
        (("4a", 0.0, 0.0, 0.0),),
        "J. C. Jamieson, Science 139 (1963) 762; cell as listed for Si-II in tables of the elements",
        "High-pressure form, measured above 10 GPa; the structure offered is 8 % larger than the published cell, "
        "about what that pressure takes away at a bulk modulus near 110 GPa.",
        start_volume_factor=1.08,
    ),
    PhaseRecord(
        "Si",
        "oS24",
        "oS24",
        63,
        1,
        (3.82236, 10.70070, 12.62580, 90, 90, 90),
        (("8f", 0.0, 0.0284, 0.5903), ("8f", 0.0, 0.2435, 0.5551), ("8f", 0.0, 0.5705, 0.3412)),
        "D. Y. Kim, S. Stefanoski, O. O. Kurakevych, T. A. Strobel, Nature Materials 14 (2015) 169; "
        "AFLOW A_oC24_63_3f, ICSD 291479",
        "Open framework, ambient conditions; oS24 and oC24 name the same structure (Cmcm).",
    ),
    PhaseRecord(
        "Ti",
        "hcp",
        "hcp",
        194,
        1,
        (2.95, 2.95, 4.686, 90, 90, 120),
        (("2c", _THIRD, _TWO_THIRDS, 0.25),),
        "R. W. G. Wyckoff, Crystal Structures 1 (1963) 9-11; MINCRYST titanium-1, AMCSD 0011195, COD 9008517",
        "At 25 °C.",
        density=4.50,
    ),
    PhaseRecord(
        "Ti",
        "omega",
        "ω",
        191,
        1,
        (4.6, 4.6, 2.82, 90, 90, 120),
        (("1a", 0.0, 0.0, 0.0), ("2d", _THIRD, _TWO_THIRDS, 0.5)),
        "E. S. Chebotareva, S. G. Nuzhdina, Fizika Metallov i Metallovedenie 36 (1973) 200; "
        "MINCRYST titanium-3",
        "At 4 GPa.",
        density=4.62,
        shortest_contact=2.6558,
    ),
    PhaseRecord(
        "Ti",
        "bcc",
        "bcc",
        229,
        1,
        (3.32, 3.32, 3.32, 90, 90, 90),
        (("2a", 0.0, 0.0, 0.0),),
        "Y. Liao, Practical Electron Microscopy and Database (GlobalSino), page 1721, Table c",
        "Stable above about 882 °C; a mechanically unstable crystal at 0 K, kept in shape by its symmetry.",
    ),
    PhaseRecord(
        "B",
        "alpha-B12",
        "α-B$_{12}$",
        166,
        1,
        (4.908, 4.908, 12.56559, 90, 90, 120),
        (("18h", 0.78437, 0.21563, 0.22603), ("18h", 0.19610, 0.80390, 0.02450)),
        "B. F. Decker, J. S. Kasper, Acta Crystallogr. 12 (1959) 503; AFLOW A_hR12_166_2h",
        "Hexagonal axes; the cell used is the rhombohedral one with 12 atoms.",
    ),
    PhaseRecord(
        "B",
        "gamma-B28",
        "γ-B$_{28}$",
        58,
        1,
        (5.0544, 5.6199, 6.9873, 90, 90, 90),
        (
            ("4g", 0.1702, 0.5206, 0.0),
            ("8h", 0.1606, 0.2810, 0.3743),
            ("8h", 0.3472, 0.0924, 0.2093),
            ("4g", 0.3520, 0.2711, 0.0),
            ("4g", 0.1644, 0.0080, 0.0),
        ),
        "A. R. Oganov et al., Nature 457 (2009) 863, structure computed there at ambient pressure",
        "Icosahedra and B2 pairs in the arrangement of rock salt. The numbers could not be compared with the printed "
        "table; they are checked by geometry (test_gamma_boron_is_icosahedra_and_pairs).",
    ),
    PhaseRecord(
        "B",
        "alpha-Ga",
        "α-Ga type",
        64,
        1,
        (3.185, 5.398, 3.189, 90, 90, 90),
        (("8f", 0.0, 0.1539, 0.0810),),
        "B. D. Sharma, J. Donohue, Z. Kristallogr. 117 (1962) 293: α-gallium, scaled by 0.7047",
        "The cell of gallium (4.5198, 7.6602, 4.5258 Å), scaled so that the shortest contact is 1.74 Å: a start for "
        "the optimisation that both potential and reference make before energies are compared, not a measured "
        "structure of boron.",
    ),
    PhaseRecord(
        "B",
        "beta-B105",
        "β-B$_{105}$",
        166,
        1,
        (10.96, 10.96, 23.89, 90, 90, 120),
        (
            ("3b", 0.0, 0.0, 0.5),
            ("6c", 0.0, 0.0, 0.3848),
            ("18h", 0.05707, -0.05707, 0.32723),
            ("18h", 0.4239, -0.4239, 0.0656),
            ("18h", 0.27277, -0.27277, 0.11453),
            ("18h", 0.10233, -0.10233, -0.30143),
            ("18h", 0.1703, -0.1703, 0.028),
            ("18h", 0.12963, -0.12963, -0.23283),
            ("18h", 0.2255, -0.2255, -0.2188),
            ("18h", 0.0878, -0.0878, 0.013),
            ("18h", 0.05517, -0.05517, -0.05767),
            ("36i", 0.08397, 0.43254, 0.01363),
            ("36i", 0.11523, 0.40456, 0.08717),
            ("36i", 0.03653, 0.34826, -0.20383),
            ("36i", 0.0016, 0.1728, 0.1761),
        ),
        "D. Geist, R. Kloss, H. Follner, Acta Crystallogr. B 26 (1970) 1800; AFLOW A_hR105_166_bc9h4i",
        "Hexagonal axes; the cell used is the rhombohedral one with 105 atoms. The model with every site full, that of "
        "Fig. 4a of Deringer et al. 2018. Site B15 is the single atom at the cell's centre and B13 its six neighbours, "
        "as that paper describes them; the real crystal has B13 occupied to about 3/4 only.",
        site_labels=("B15", "", "", "", "B13", *[""] * 10),
    ),
)

#: phases named by the papers that are not offered, by element, each with the reason
MISSING: dict[str, dict[str, str]] = {
    "B": {
        "beta-B106": "β-boron with vacancies on site B13 and atoms on site B16 (Fig. 2 of Deringer et al. 2018): no "
        "source of the coordinates of B16 to B20 was found whose numbers could be checked; beta-B105 is offered."
    }
}
