"""The engines, one file each: settings, how the program is run and read, its faults and remedies.

A module of this package, or one that an installed package names under the entry points ``gapfactory.engines``, is an
engine when it has a variable ``ENGINE``: the class, which names its settings. Nothing else has to be registered.
"""
