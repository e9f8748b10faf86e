"""Benchmarks that run lossjax and its peers side by side, in one process: ``lossjax bench``."""

from lossjax.bench.problems import SUITES as SUITES
from lossjax.bench.problems import Head as Head
from lossjax.bench.problems import Problem as Problem
from lossjax.bench.problems import Rows as Rows
from lossjax.bench.run import Measured as Measured
from lossjax.bench.run import measure as measure
