"""Everything gapfactory keeps in MongoDB: one module per kind of document, one connection, one index list."""

from __future__ import annotations
