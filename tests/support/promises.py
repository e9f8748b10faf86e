"""What each example must print."""

import re
from collections.abc import Callable

ERROR_ROW = re.compile(r"^ (.+?) {2,}(\S+) +≤ (\S+)u +(\S+) +(optax|textbook) *$", re.MULTILINE)
THEOREM_ROW = re.compile(r"^ (\S.+?) {2,}(\S+) +≤ (\S+) *$", re.MULTILINE)


def errors(output: str) -> dict[str, tuple[float, float, float, str]]:
    """The last table: of each quantity lossjax's error, what it promises, the other's error, and its name."""
    rows = {name: (float(a), float(b), float(c), who) for name, a, b, c, who in ERROR_ROW.findall(output)}
    for name, (ours, allowed, _, _) in rows.items():
        assert ours <= allowed <= 8, f"{name}: {ours} ulp"
    return rows


def digits(output: str) -> None:
    accuracy = re.search(r"accuracy (0\.\d+) on 360 test images", output)
    assert accuracy is not None
    assert float(accuracy[1]) >= 0.96
    rows = errors(output)
    assert list(rows) == ["loss", "gradient at the label", "other gradients"]
    for quantity in ("loss", "gradient at the label"):
        _, allowed, others, who = rows[quantity]
        assert who == "optax"
        assert others > 1000 * allowed, "a trained network makes optax lose most digits; has the figure been mixed up?"


def diabetes(output: str) -> None:
    fits = re.findall(r"^ (?:fixed|learned|by patient) +\d+ +(-\d+\.\d+)", output, re.MULTILINE)
    likelihoods = [float(likelihood) for likelihood in fits]
    assert len(likelihoods) == 3
    assert likelihoods == sorted(likelihoods), "each model contains the one before"
    theorems = THEOREM_ROW.findall(output)
    assert len(theorems) == 10
    assert all(float(off) <= float(allowed) <= 1e-9 for _, off, allowed in theorems)
    assert "R² = SSR / SST (it is 0.5177)" in output  # as scikit-learn's LinearRegression has it on these data
    rows = errors(output)
    assert len(rows) == 8
    assert {who for *_, who in rows.values()} == {"optax", "textbook"}
    assert rows["squared error"][3] == "optax"


COLLAPSE_ROW = re.compile(r"^ (\d+) +(optax|lossjax) +(\S+) +\S+ +(\S+) +(\d+) +(0\.\d+) *$", re.MULTILINE)


def collapse(output: str) -> None:
    rows = [(int(step), who, float(loss), int(zero)) for step, who, loss, _, zero, _ in COLLAPSE_ROW.findall(output)]
    last = {who: (loss, zero) for step, who, loss, zero in rows if step == max(r[0] for r in rows)}
    assert last["optax"] == (0, 1740), "the usual loss and its label gradients round to 0 on every pair"
    loss, zero = last["lossjax"]
    assert 0 < loss < 2.0**-24
    assert zero == 0
    assert {who for _, who, loss, _ in rows if loss == 0} == {"optax"}
    accuracies = re.search(r"optax's loss (0\.\d+) \(at best (0\.\d+)\), with lossjax's (0\.\d+)", output)
    assert accuracies is not None
    assert float(accuracies[3]) > 1.5 * float(accuracies[2]), "what the exact gradient gains, if it gains it here"
    assert "wrote softmax_collapse.png" in output


def verify_your_loss(output: str) -> None:
    assert "The wrong rule: check_grads rejects it at 8 tokens, accepts it at 1000." in output
    assert "The right rule: check_grads accepts it at 8 tokens, accepts it at 1000." in output
    wrong, right = output.split("The right rule")
    assert re.search(r"✗ rule: gradient of argument 0 at \[\d, \d\]: got \S+ want\s+\S+", wrong)
    assert "Falls short: rule, cotangent." in wrong
    assert "checks hold." in right


def sharded_training(output: str) -> None:
    theorems = THEOREM_ROW.findall(output)
    assert theorems[0][0] == "loss, sharded = loss on one device"
    assert len(theorems) == 5
    assert all(float(off) <= float(allowed) <= 3e-4 for _, off, allowed in theorems)
    bits = [float(found) for found in re.findall(r"^ +\d+ steps +(\d\.\d+)$", output, re.MULTILINE)]
    assert len(bits) == 6
    assert bits[0] > 7.9, "before any step the predictions are near uniform"
    assert bits[-1] < 5
    assert "head [128, 256]: a device holds [128, 128] of it, [128, 128] of Adam's moments" in output


def two_processes(output: str) -> None:
    rows = re.findall(r"^ (\d+) +(\d\.\d+) +(\d\.\d+) +(\d\.\d+) *$", output, re.MULTILINE)
    assert len(rows) == 5
    assert all(first == second for _, first, second, _ in rows)
    assert float(rows[-1][1]) < float(rows[0][1]) - 1
    off = re.search(r"the first loss is off by (\S+) from one process's, ≤ (\S+) allowed", output)
    assert off is not None
    assert float(off[1]) <= float(off[2]) <= 2e-5


def flax_nnx(output: str) -> None:
    rows = re.findall(r"^ (all alike|by rarity) +(0\.\d+) +(0\.\d+) +(0\.\d+) *$", output, re.MULTILINE)
    alike, by_rarity = ([float(share) for share in shares] for _, *shares in rows)
    assert by_rarity[1] > alike[1] + 0.1, "class weights help the rare classes"
    assert by_rarity[2] > 0.85


def equinox(output: str) -> None:
    rows = re.findall(r"^ (as trained|temperature \S+) +(0\.\d+) +(\d+\.\d+) +(\d+\.\d+) *$", output, re.MULTILINE)
    (_, accuracy, loss, worst), (name, same_accuracy, lower, less) = rows
    assert float(name.split()[1]) > 1, "a network that has fitted its patients is too sure"
    assert same_accuracy == accuracy, "the sign of a logit is not that of its temperature"
    assert float(accuracy) > 0.93
    assert float(lower) < float(loss)
    assert float(less) < float(worst)


def label_noise(output: str) -> None:
    rows = dict(re.findall(r"^ (\S.+?) {2,}(0\.\d+) +yes *$", output, re.MULTILINE))
    assert len(rows) == 4, "what a masked row holds reaches no loss and no gradient"
    assert min(map(float, rows.values())) > 0.65
    assert max(rows, key=lambda name: float(rows[name])) == "generalized q = 0.7"


def distillation(output: str) -> None:
    pattern = r"^ (student, alone|student, taught|near copy) +\d+ +(0\.\d+) +(\S+) +(\d+) rows *$"
    rows = re.findall(pattern, output, re.MULTILINE)
    (_, alone, far, _), (_, taught, near, _), (_, _, nearest, negative) = rows
    assert float(taught) > float(alone) + 0.05
    assert 0 < float(nearest) < float(near) < float(far)
    assert int(negative) > 0, "close by, the usual formula is below its rounding error"
    smallest = re.search(r"smallest divergence of any row, from the logits: (\S+)", output)
    assert smallest is not None
    assert float(smallest[1]) >= 0


def large_vocabulary(output: str) -> None:
    taken = {form: float(size) for form, size in re.findall(r"^ (stored|in blocks) +(\d+) ", output, re.MULTILINE)}
    logits = re.search(r"logits of \d+ rows and \d+ classes: (\d+) MB", output)
    assert logits is not None
    assert taken["stored"] > float(logits[1])
    assert taken["in blocks"] < taken["stored"] / 2
    perplexities = re.search(r"text not trained on: (\d+) before, (\d+) after", output)
    assert perplexities is not None
    assert float(perplexities[2]) < 0.7 * float(perplexities[1])


def mixed_precision(output: str) -> None:
    pattern = r"^ (\S.*?) +2\^(\d+) +(0\.\d+) +(\S+) +(\d+\.\d)% *$"
    rows = {name: [float(x) for x in found] for name, *found in re.findall(pattern, output, re.MULTILINE)}
    assert list(rows) == ["float32", "bfloat16", "float16", "float16, scaled"]
    assert min(accuracy for _, accuracy, _, _ in rows.values()) > 0.95
    assert rows["float16"][3] > 5
    assert all(lost == 0 for name, (*_, lost) in rows.items() if name != "float16")
    assert rows["float16, scaled"][0] < 30, "the scale starts too large and comes down"


def halved(output: str) -> None:
    """The last table: the same loss with its logits stored, and not."""
    taken = {form: float(size) for form, size in re.findall(r"^ (stored|never stored) +(\d+) *$", output, re.MULTILINE)}
    assert taken["never stored"] < taken["stored"] / 2


def preference_tuning(output: str) -> None:
    before, after = (float(x) for x in re.findall(r"the more likely one in (\d\.\d+) of test pairs", output))
    assert before < 0.9 < 0.95 < after, "the preference is learned"
    assert "too unlikely: 110.0; by log(sigmoid(x)): inf" in output
    halved(output)


def policy_gradient(output: str) -> None:
    rows = [float(x) for x in re.findall(r"^ \d+ +(\d\.\d+) +\d+\.\d+ *$", output, re.MULTILINE)]
    assert rows[0] < 0.2, "a sixteenth is guessed"
    assert rows[-1] > 0.9, "the policy has learned to count"
    found = re.search(r"k3 at a distance of 1e-4: (\S+); by exp\(x\) - x - 1: (\S+)", output)
    assert found is not None
    assert float(found[1]) == 5e-9
    assert abs(float(found[2]) - 5e-9) > 1e-9
    halved(output)


def head_distillation(output: str) -> None:
    rows = re.findall(r"^ (forward|reverse|top 10) +(\S+) +(\S+) +(\S+) *$", output, re.MULTILINE)
    learned = {name: [float(x) for x in found] for name, *found in rows}
    assert list(learned) == ["forward", "reverse", "top 10"]
    assert all(after < 0.75 * first for first, after, _ in learned.values())
    assert learned["reverse"][2] == min(backward for *_, backward in learned.values()), "it is what it minimises"
    found = re.search(r"lossjax at least (\S+),\n.*not positive in (\d+) of 64 rows", output)
    assert found is not None
    assert float(found[1]) > 0
    assert int(found[2]) > 0, "close by, the usual formula is below its rounding error"
    halved(output)


EXPECTED: dict[str, Callable[[str], None]] = {
    "01_train_digits.py": digits,
    "02_regression_diabetes.py": diabetes,
    "03_softmax_collapse.py": collapse,
    "04_verify_your_loss.py": verify_your_loss,
    "05_sharded_training.py": sharded_training,
    "06_two_processes.py": two_processes,
    "07_flax_nnx.py": flax_nnx,
    "08_equinox.py": equinox,
    "09_label_noise.py": label_noise,
    "10_distillation.py": distillation,
    "11_large_vocabulary.py": large_vocabulary,
    "12_mixed_precision.py": mixed_precision,
    "13_preference_tuning.py": preference_tuning,
    "14_policy_gradient.py": policy_gradient,
    "15_head_distillation.py": head_distillation,
}
NEEDS = {"07_flax_nnx.py": "flax", "08_equinox.py": "equinox"}
"""What only one example uses."""
SMALL = {
    "03_softmax_collapse.py": ("--modulus", "59", "--steps", "1200"),
    "05_sharded_training.py": ("--steps", "20"),
    "06_two_processes.py": ("--steps", "8"),
    "07_flax_nnx.py": ("--steps", "60"),
    "08_equinox.py": ("--steps", "100"),
    "09_label_noise.py": ("--epochs", "20"),
    "10_distillation.py": ("--steps", "200"),
    "11_large_vocabulary.py": ("--vocabulary", "16384", "--rows", "2048", "--steps", "3"),
    "12_mixed_precision.py": ("--steps", "60"),
    "13_preference_tuning.py": ("--steps", "40"),
    "14_policy_gradient.py": ("--steps", "25", "--figure", "learned.png"),
    "15_head_distillation.py": ("--classes", "2048", "--steps", "60", "--figure", "learned.png"),
}
"""Smaller runs, which keep the same promises."""
