"""What is counted of programs for a GPU, against counts by hand; and a program that XLA compiles for one."""

import json
import os
import subprocess
import sys

import pytest

from benchmarks import __main__ as entry
from benchmarks import ahead, report

# As XLA writes programs down: three turns of a product with what is fused into it, a copy, and, once or never, a sum of
# what comes out, which is half of the cheaper of two branches.
PROGRAM = """HloModule jit_f, is_scheduled=true

%fused (a: f32[8,4], b: f32[4,2]) -> f32[8,2] {
  %a = f32[8,4]{1,0} parameter(0)
  %b = f32[4,2]{1,0} parameter(1)
  %dot.1 = f32[8,2]{1,0} dot(%a, %b), lhs_contracting_dims={1}, rhs_contracting_dims={0}
  ROOT %tanh.1 = f32[8,2]{1,0} tanh(%dot.1), metadata={op_name="tanh"}
}

%turn (t: (s32[], f32[8,4], f32[8,2])) -> (s32[], f32[8,4], f32[8,2]) {
  %t = (s32[], f32[8,4]{1,0}, /*index=2*/f32[8,2]{1,0}) parameter(0)
  %x = f32[8,4]{1,0} get-tuple-element(%t), index=1
  %w = f32[4,2]{1,0} constant({...})
  %fusion.1 = f32[8,2]{1,0} fusion(%x, %w), kind=kCustom, calls=%fused
  ROOT %tuple.1 = (s32[], f32[8,4]{1,0}, f32[8,2]{1,0}) tuple(%x, %fusion.1)
}

%more (t: (s32[], f32[8,4], f32[8,2])) -> pred[] {
  %t = (s32[], f32[8,4]{1,0}, f32[8,2]{1,0}) parameter(0)
  ROOT %lt = pred[] compare(%t, %t), direction=LT
}

%two (p: f32[8,2]) -> bf16[2] {
  %p = f32[8,2]{1,0} parameter(0)
  %copy.2 = f32[8,2]{1,0} copy(%p)
  ROOT %sum.2 = bf16[2]{0} fusion(%copy.2), kind=kInput, calls=%fused_sum
}

%one (p: f32[8,2]) -> bf16[2] {
  %p = f32[8,2]{1,0} parameter(0)
  ROOT %sum.1 = bf16[2]{0} fusion(%p), kind=kInput, calls=%fused_sum
}

%fused_sum (p: f32[8,2]) -> bf16[2] {
  %p = f32[8,2]{1,0} parameter(0)
  ROOT %reduce.1 = bf16[2]{0} reduce(%p), dimensions={0}
}

%once (s: (pred[], f32[8,2])) -> (pred[], f32[8,2]) {
  %s = (pred[], f32[8,2]{1,0}) parameter(0)
  %y = f32[8,2]{1,0} get-tuple-element(%s), index=1
  ROOT %conditional.1 = bf16[2]{0} conditional(%y, %y, %y), branch_computations={%two, %one}
}

%asked (s: (pred[], f32[8,2])) -> pred[] {
  %s = (pred[], f32[8,2]{1,0}) parameter(0)
  ROOT %wanted = pred[] get-tuple-element(%s), index=0
}

ENTRY %main (x: f32[8,4]) -> f32[8,4] {
  %x.1 = f32[8,4]{1,0} parameter(0)
  %while.1 = (s32[], f32[8,4]{1,0}) while(%x.1), condition=%more, body=%turn, config={"known_trip_count":{"n":"3"}}
  %while.2 = (s32[], f32[8,4]{1,0}) while(%x.1), condition=%more, body=%turn
  %while.3 = (pred[], f32[8,2]{1,0}) while(%x.1), condition=%asked, body=%once
  ROOT %copy.1 = f32[8,4]{1,0} copy(%x.1)
}
"""
PRODUCT = ahead.Work(1, 4 * (8 * 4 + 4 * 2 + 8 * 2), 2 * 8 * 4 * 2)
COPY = ahead.Work(1, 4 * 2 * 8 * 4, 0)
SUM = ahead.Work(1, 4 * 8 * 2 + 2 * 2, 0)


def test_a_program_launches_what_its_loops_and_branches_do():
    assert ahead.work(PROGRAM) == PRODUCT.times(4) + COPY
    assert ahead.work(PROGRAM, seldom=0.25) == PRODUCT.times(4) + COPY + SUM.times(0.25)


def test_without_the_compiler_is_one_line_with_the_cure_and_status_two(tmp_path, capsys):
    written = tmp_path / "history.jsonl"
    assert entry.main(["model", "--history", str(written)]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("error: XLA's compiler for CUDA is not there; install it by `pip install --no-deps --target")
    assert line.endswith("and give --compiler runs/cuda") and not written.exists()


BEGINS = """
import sys
from unittest import mock

from benchmarks import __main__ as entry, ahead, model

def use(folder):
    sys.exit(f"JAX is there: {'jax' in sys.modules}")

with mock.patch.object(ahead, "use", use):
    entry.main(["model", "--compiler", "somewhere", "--no_history"])
"""


def test_jax_is_not_there_before_it_is_told_where_the_compiler_lies():
    done = subprocess.run([sys.executable, "-c", BEGINS], capture_output=True, text=True, cwd=report.ROOT)
    assert done.stderr.splitlines()[-1] == "JAX is there: False"


COMPILES = """
import json
import sys

from benchmarks import ahead

ahead.use(sys.argv[1])

import jax
import jax.numpy as jnp

def function(x, w):
    return jnp.tanh(jnp.tanh(x @ w) @ w)

x, w = jax.ShapeDtypeStruct((4096, 64), jnp.float32), jax.ShapeDtypeStruct((64, 64), jnp.float32)
print(json.dumps(ahead.work(ahead.compiled(jax.jit(function), (x, w), ahead.mesh()))))
"""


@pytest.mark.cuda_compiler
def test_a_program_is_compiled_for_a_gpu_that_is_not_here():
    done = subprocess.run(
        [sys.executable, "-c", COMPILES, os.environ["CUDA_COMPILER"]],
        capture_output=True,
        text=True,
        cwd=report.ROOT,
        env={key: value for key, value in os.environ.items() if not key.startswith("XLA_")},
    )
    assert done.returncode == 0, done.stderr
    kernels, moved, products = json.loads(done.stdout.splitlines()[-1])
    # Two kernels, each a product and its tanh: x and w go in, and as much as x comes out.
    assert (kernels, moved, products) == (2, 2 * 4 * (2 * 4096 * 64 + 64 * 64), 2 * 2 * 4096 * 64 * 64)
