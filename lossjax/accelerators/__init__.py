"""Programs for TPUs and GPUs, made by those chips' own compilers on a machine that has neither, and read.

A compiled program says what a chip will do, not how fast, nor with what numbers: the memory that it takes, the bytes
that its kernels move, and what its devices send each other.
"""

from lossjax.accelerators.chips import CHIPS as CHIPS
from lossjax.accelerators.chips import Chip as Chip
from lossjax.accelerators.chips import NotPossible as NotPossible
from lossjax.accelerators.head_plan import HeadPlan as HeadPlan
from lossjax.accelerators.head_plan import plan_head as plan_head
from lossjax.accelerators.program import Facts as Facts
from lossjax.accelerators.program import compiled_for as compiled_for
