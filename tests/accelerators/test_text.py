"""What is read from a program's text: on small programs, written here, whose bytes can be counted by hand."""

import pytest

from lossjax.accelerators.text import Program, arrays

LOOP = """
HloModule small

%body (state: (s32[], f32[64,256])) -> (s32[], f32[64,256]) {
  %state = (s32[], f32[64,256]{1,0}) parameter(0)
  %i = s32[] get-tuple-element(%state), index=0
  %table = f32[64,256]{1,0} get-tuple-element(%state), index=1
  %negated = f32[64,256]{1,0} negate(%table)
  ROOT %next = (s32[], f32[64,256]{1,0}) tuple(%i, %negated)
}

%condition (state.1: (s32[], f32[64,256])) -> pred[] {
  %state.1 = (s32[], f32[64,256]{1,0}) parameter(0)
  %i.1 = s32[] get-tuple-element(%state.1), index=0
  %count = s32[] constant(5)
  ROOT %more = pred[] compare(%i.1, %count), direction=LT
}

ENTRY %main (x: f32[64,256]) -> f32[64,256] {
  %x = f32[64,256]{1,0} parameter(0)
  %zero = s32[] constant(0)
  %start = (s32[], f32[64,256]{1,0}) tuple(%zero, %x)
  %loop = (s32[], f32[64,256]{1,0}) while(%start), condition=%condition, body=%body@KNOWN@
  ROOT %result = f32[64,256]{1,0} get-tuple-element(%loop), index=1
}
"""

FUSED = """
%taking (a: f32[1000,128], b: s32[10]) -> f32[10,128] {
  %a = f32[1000,128]{1,0} parameter(0)
  %b = s32[10]{0} parameter(1)
  %wide = f32[1000,128]{1,0} exponential(%a)
  ROOT %rows = f32[10,128]{1,0} gather(%wide, %b), offset_dims={1}
}

%updating (whole: f32[1000,128], piece: f32[1,128], at: s32[]) -> f32[1000,128] {
  %whole = f32[1000,128]{1,0} parameter(0)
  %piece = f32[1,128]{1,0} parameter(1)
  %at = s32[] parameter(2)
  ROOT %new = f32[1000,128]{1,0} dynamic-update-slice(%whole, %piece, %at, %at)
}

%summing (c: f32[1000,128]) -> f32[1000] {
  %c = f32[1000,128]{1,0} parameter(0)
  ROOT %sums = f32[1000]{0} reduce(%c, %c), dimensions={1}
}

ENTRY %main (x: f32[1000,128], i: s32[10], j: s32[]) -> f32[1000] {
  %x = f32[1000,128]{1,0} parameter(0)
  %i = s32[10]{0} parameter(1)
  %j = s32[] parameter(2)
  %taken = f32[10,128]{1,0} fusion(%x, %i), kind=kLoop, calls=%taking
  %first = f32[1,128]{1,0} slice(%taken), slice={[0:1], [0:128]}
  %put = f32[1000,128]{1,0} fusion(%x, %first, /*index=2*/%j), kind=kLoop, calls=%updating
  ROOT %result = f32[1000]{0} fusion(%put), kind=kInput, calls=%summing
}
"""

ON_CHIP = """
ENTRY %main (x: f32[512,1024]) -> f32[512] {
  %x = f32[512,1024]{1,0:T(8,128)} parameter(0)
  %begin = (f32[512,1024]{1,0:T(8,128)S(1)}, f32[512,1024]{1,0:T(8,128)}, u32[]{:S(2)}) copy-start(%x)
  %here = f32[512,1024]{1,0:T(8,128)S(1)} copy-done(%begin)
  %twice = f32[512,1024]{1,0:T(8,128)S(1)} add(%here, %here)
  %all = f32[512]{0:T(512)} all-reduce(%twice), replica_groups={}, to_apply=%sum
  ROOT %result = f32[512]{0:T(512)} negate(%all)
}
"""


@pytest.mark.parametrize("known", [', backend_config={"known_trip_count":{"n":"5"}}', ""], ids=["said", "compared"])
def test_a_loop_counts_once_for_each_trip(known: str) -> None:
    program = Program(LOOP.replace("@KNOWN@", known))
    comparing = 4 + 4 + 1
    assert program.moved() == 5 * (2 * 64 * 256 * 4 + comparing)
    assert sum(times for _, _, times in program.kernels()) == 10


def test_a_fusion_reads_what_it_takes_and_writes_what_it_changes() -> None:
    taken = 10 * 128 * 4 + 10 * 4 + 10 * 128 * 4
    first = 2 * 128 * 4
    put = 128 * 4 + 4 + 128 * 4
    summed = 1000 * 128 * 4 + 1000 * 4
    assert Program(FUSED).moved() == taken + first + put + summed


def test_what_lies_on_the_chip_moves_no_bytes() -> None:
    """Its copy from memory does."""
    program = Program(ON_CHIP)
    assert program.moved() == 512 * 1024 * 4 + 512 * 4 + 2 * 512 * 4
    assert program.collectives() == {("all-reduce", "f32"): 1}
    assert program.largest("all-reduce") == 512
    assert program.largest("all-gather") == 0


def test_tiles_are_filled_up() -> None:
    (array,) = arrays("bf16[10,1]{0,1:T(8,128)(2,1)}")
    assert (array.elements, array.bytes) == (10, 8 * 128 * 2)
    assert [a.bytes for a in arrays("(f32[3]{0}, pred[4]{0}, u32[]{:S(2)})")] == [12, 4, 0]
