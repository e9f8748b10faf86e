"""Record what PyTorch's losses give, and their gradients, for ``tests/parity/test_torch_parity.py``.

To write the data files beside this script again, from the root of the repository::

    python -m venv torchenv
    torchenv/bin/pip install torch==2.13.0 numpy
    torchenv/bin/python tests/parity/record_torch.py

Everything is drawn from fixed seeds: on one kind of processor the files come out the same byte for byte. (On another
the vectorised exp and log of PyTorch may differ in the last digit.)

A file is ``{"torch": version, "command": …, "cases": […]}``, one case a line:

    name        readable, unique
    function    of ``torch.nn.functional``; ``…_of_logits`` is that function of softmax and log-softmax
    inputs      its arguments as nested lists; integers are labels, all else is float64
    options     its other arguments
    outputs     ``value``, then under an argument's name the gradient in it, pulled back from ``cotangent`` (an input)

Floats are written by ``repr``, which is read back exactly. Inputs have few digits to keep the files small. NaN is null;
an infinity is refused.
"""

import importlib
import itertools
import json
import math
import random
import warnings
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

torch: Any = importlib.import_module("torch")
F: Any = importlib.import_module("torch.nn.functional")

FOLDER = Path(__file__).parent
COMMAND = "python tests/parity/record_torch.py"
REDUCTIONS = ("none", "sum", "mean")
SMOOTHINGS = (0.0, 0.1, 1.0)
LAYOUTS = {"NC": (4, 5), "NCd": (2, 4, 3), "NCde": (2, 3, 1, 3)}
SCALES = ("normal", "offset", "wide")
ELEMENTS = (4, 2)
DIVERGENCE_REDUCTIONS = ("none", "sum", "batchmean")

Case = dict[str, Any]


# --- drawing ---------------------------------------------------------------------------------------------------------


def array(shape: Sequence[int], draw: Callable[[], Any]) -> Any:
    """Nested lists of that shape."""
    return [array(shape[1:], draw) for _ in range(shape[0])] if shape else draw()


def scores(rng: random.Random, shape: Sequence[int], scale: str = "normal") -> Any:
    """Logits or predictions: of size 1, of size 1 around 1000, or of size 30."""
    offset, size = {"normal": (0, 1), "offset": (1000, 1), "wide": (0, 30)}[scale]
    return array(shape, lambda: round(offset + size * rng.gauss(0, 1), 3))


def uniform(rng: random.Random, shape: Sequence[int], low: float, high: float) -> Any:
    return array(shape, lambda: round(rng.uniform(low, high), 3))


def distribution(rng: random.Random, classes: int, zeros: bool) -> list[float]:
    """Probabilities that are multiples of 1/64: their sum is 1 exactly."""
    cuts = sorted(
        rng.sample(range(1, 64), classes - 1) if not zeros else (rng.randint(0, 64) for _ in range(classes - 1))
    )
    return [(b - a) / 64 for a, b in itertools.pairwise([0, *cuts, 64])]


def along_classes(rows: list[list[float]], shape: Sequence[int]) -> Any:
    """Rows of C numbers, as an array of that shape with the classes on axis 1."""
    rest = (shape[0], *shape[2:])
    return torch.tensor(rows).reshape(*rest, shape[1]).movedim(-1, 1).tolist()


def labels(rng: random.Random, shape: Sequence[int], ignored: int | None = None) -> Any:
    """A label a row of an array of that shape; the first is 0, every third from the second is ignored."""
    rows = [rng.randrange(shape[1]) for _ in range(shape[0] * math.prod(shape[2:]))]
    rows[0] = 0
    if ignored is not None:
        rows[1::3] = [ignored] * len(rows[1::3])
    return torch.tensor(rows).reshape(shape[0], *shape[2:]).tolist()


def class_weights(rng: random.Random, classes: int) -> list[float]:
    """Positive but for one 0."""
    return [round(rng.uniform(0.25, 3), 3) if k != 2 else 0.0 for k in range(classes)]


# --- recording -------------------------------------------------------------------------------------------------------


def kl_div_of_logits(logits_q: Any, logits_p: Any, *, dim: int, log_target: bool, reduction: str) -> Any:
    """PyTorch's KL, whose arguments are the log-probabilities q of the model and the target p, from logits."""
    target = F.log_softmax(logits_p, dim) if log_target else F.softmax(logits_p, dim)
    return kl_div(F.log_softmax(logits_q, dim), target, dim=dim, log_target=log_target, reduction=reduction)


def kl_div(input: Any, target: Any, *, dim: int, log_target: bool, reduction: str) -> Any:
    """The terms of ``reduction="none"`` are summed over the classes."""
    terms = F.kl_div(input, target, log_target=log_target, reduction=reduction)
    return terms.sum(dim) if reduction == "none" else terms


OWN = {"kl_div": kl_div, "kl_div_of_logits": kl_div_of_logits}


def record(name: str, function: str, inputs: dict[str, Any], gradients: str, **options: Any) -> Case:
    """A case: the value and the gradients in the arguments named in ``gradients``, under a cotangent that varies."""
    tensors = {key: torch.tensor(value) for key, value in inputs.items()}
    argued = [tensors[key].requires_grad_() for key in gradients.split()]
    value = (OWN.get(function) or getattr(F, function))(**tensors, **options)
    assert value.dtype == torch.float64
    cotangent = uniform(random.Random(f"cotangent of {name}"), value.shape, -2, 2)
    pulled = torch.autograd.grad(value, argued, torch.tensor(cotangent))
    outputs = {"value": value, **dict(zip(gradients.split(), pulled, strict=True))}
    return {
        "name": name,
        "function": function,
        "inputs": {**inputs, "cotangent": cotangent},
        "options": options,
        "outputs": {key: finite(tensor.tolist()) for key, tensor in outputs.items()},
    }


def finite(value: Any) -> Any:
    """NaN as null; an infinity has no place in the files."""
    if isinstance(value, list):
        return [finite(entry) for entry in value]
    assert not math.isinf(value)
    return None if math.isnan(value) else value


def write(name: str, cases: Iterable[Case]) -> None:
    lines = [json.dumps(case, allow_nan=False, separators=(",", ":")) for case in cases]
    header = f'"torch": "{torch.__version__.partition("+")[0]}",\n"command": "{COMMAND}",\n'
    text = "{" + header + '"cases": [\n' + ",\n".join(lines) + "\n]}\n"
    (FOLDER / f"{name}.json").write_text(text, encoding="utf-8")
    print(f"{name}.json: {len(lines)} cases, {len(text.encode())} bytes")


# --- the cases -------------------------------------------------------------------------------------------------------


def arrangement(*options: int, reduction: int) -> tuple[str, str]:
    """Layout and scale of a case, such that every pair of them, and each with every option, occurs.

    The layout does not depend on the reduction, which saves compilations.
    """
    return list(LAYOUTS)[sum(options) % 3], SCALES[(options[0] + 2 * options[1] + reduction) % 3]


def cross_entropy_with_labels() -> Iterable[Case]:
    """Every combination of ignore_index, weight, smoothing and reduction; layouts and scales go round."""
    ignores = {"none": None, "outside": -100, "inside": 1}
    for (i, ignore), (s, smoothing), (w, weighted), (r, reduction) in itertools.product(
        enumerate(ignores), enumerate(SMOOTHINGS), enumerate((False, True)), enumerate(REDUCTIONS)
    ):
        layout, scale = arrangement(s, i, w, reduction=r)
        shape, ignored = LAYOUTS[layout], ignores[ignore]
        name = f"labels-{layout}-{scale}-ignore_{ignore}-smoothing_{smoothing}{'-weight' * weighted}-{reduction}"
        rng = random.Random(name)
        inputs = {"input": scores(rng, shape, scale), "target": labels(rng, shape, ignored)}
        if weighted:
            inputs["weight"] = class_weights(rng, shape[1])
        options = {} if ignored is None else {"ignore_index": ignored}
        yield record(name, "cross_entropy", inputs, "input", **options, label_smoothing=smoothing, reduction=reduction)


def cross_entropy_at_its_edges() -> Iterable[Case]:
    """Nothing counted, weights that sum to 0, one row, one class, no batch axis."""

    def case(name: str, input: Any, target: Any, weight: Any = None, **options: Any) -> Case:
        inputs = {"input": input, "target": target} | ({} if weight is None else {"weight": weight})
        return record(f"labels-{name}-{options['reduction']}", "cross_entropy", inputs, "input", **options)

    rng = random.Random("edges")
    for smoothing, reduction in itertools.product((0.0, 0.1), REDUCTIONS):
        options = {"label_smoothing": smoothing, "reduction": reduction}
        ignoring = {"ignore_index": -100, **options}
        z, all_ignored, w = scores(rng, (4, 5)), [-100] * 4, class_weights(rng, 5)
        yield case(f"all_ignored-smoothing_{smoothing}", z, all_ignored, **ignoring)
        yield case(f"all_ignored-smoothing_{smoothing}-weight", z, all_ignored, w, **ignoring)
        yield case(f"no_batch_axis-smoothing_{smoothing}-weight", z[0], 3, w, **options)
    for smoothing in (0.0, 0.1):
        options = {"label_smoothing": smoothing, "reduction": "mean"}
        yield case(
            f"weightless-smoothing_{smoothing}-weight", scores(rng, (4, 5)), [2] * 4, [1.0, 1, 0, 1, 1], **options
        )
        yield case(f"one_class-smoothing_{smoothing}-weight", [[1.5], [-2.0], [0.0]], [0, 0, 0], [0.75], **options)
        yield case(f"one_row-smoothing_{smoothing}-weight", scores(rng, (1, 5)), [4], class_weights(rng, 5), **options)
    # PyTorch takes log(Σexp) of a sum that has rounded to 1; the loss is e^-50.
    yield case("certain", [[50.0, 0, 0, 0, 0]] * 4, [0, 0, 1, 2], label_smoothing=0.0, reduction="none")


def cross_entropy_with_distributions() -> Iterable[Case]:
    """Every combination of normalised and other targets, weight, smoothing and reduction."""
    for (k, kind), (s, smoothing), (w, weighted), (r, reduction) in itertools.product(
        enumerate(("distribution", "mass")), enumerate(SMOOTHINGS), enumerate((False, True)), enumerate(REDUCTIONS)
    ):
        layout, scale = arrangement(s, k, w, reduction=r)
        shape = LAYOUTS[layout]
        name = f"{kind}-{layout}-{scale}-smoothing_{smoothing}{'-weight' * weighted}-{reduction}"
        rng = random.Random(name)
        rows = [
            distribution(rng, shape[1], zeros=True)
            if kind == "distribution"
            else [round(max(0, rng.uniform(-1, 3)), 3) for _ in range(shape[1])]
            for _ in range(shape[0] * math.prod(shape[2:]))
        ]
        if kind == "mass":
            rows[-1] = [0.0] * shape[1]
        inputs = {"input": scores(rng, shape, scale), "target": along_classes(rows, shape)}
        if weighted:
            inputs["weight"] = class_weights(rng, shape[1])
        yield record(name, "cross_entropy", inputs, " ".join(inputs), label_smoothing=smoothing, reduction=reduction)


def binary_cross_entropy() -> Iterable[Case]:
    weights = {"unweighted": None, "scalar": (), "per_class": (3,), "per_channel": (4, 1)}
    for (p, positive), (k, kind), (r, reduction) in itertools.product(
        enumerate(weights), enumerate(("hard", "soft")), enumerate(REDUCTIONS)
    ):
        shape = LAYOUTS["NCd"] if positive == "per_channel" else (4, 3)
        scale = SCALES[(p + k + r) % 3]
        name = f"binary-{positive}-{kind}-{scale}-{reduction}"
        rng = random.Random(name)
        target = (
            uniform(rng, shape, 0, 1) if kind == "soft" else array(shape, lambda rng=rng: float(rng.random() < 0.5))
        )
        inputs = {"input": scores(rng, shape, scale), "target": target}
        if (of := weights[positive]) is not None:
            inputs["pos_weight"] = uniform(rng, of, 0.25, 4)
        yield record(name, "binary_cross_entropy_with_logits", inputs, "input target", reduction=reduction)


def pair(name: str, scale: str = "normal") -> tuple[random.Random, dict[str, Any]]:
    """Predictions and targets of elementwise losses, and the generator for more."""
    rng = random.Random(name)
    return rng, {"input": scores(rng, ELEMENTS, scale), "target": scores(rng, ELEMENTS, scale)}


def squared_errors() -> Iterable[Case]:
    for weighted, reduction in itertools.product((False, True), REDUCTIONS):
        name = f"mse{'-weight' * weighted}-{reduction}"
        rng, inputs = pair(name, "wide")
        if weighted:
            inputs["weight"] = uniform(rng, ELEMENTS, 0, 2)
        yield record(name, "mse_loss", inputs, " ".join(inputs), reduction=reduction)


def gaussian() -> Iterable[Case]:
    """A variance for each element, one a row (which broadcasts), and variances from 1e-12 to 1e12."""
    spreads = {"each": (ELEMENTS, 1), "row": ((ELEMENTS[0], 1), 1), "extreme": (ELEMENTS, 12)}
    for spread, full, reduction in itertools.product(spreads, (True, False), REDUCTIONS):
        if not full and spread != "each":
            continue
        name = f"gaussian-var_{spread}{'-full' * full}-{reduction}"
        rng, inputs = pair(name)
        shape, decades = spreads[spread]
        inputs["var"] = array(shape, lambda rng=rng, d=decades: float(f"{10 ** rng.uniform(-d, d):.3e}"))
        yield record(name, "gaussian_nll_loss", inputs, "input target var", full=full, eps=1e-300, reduction=reduction)


def poisson() -> Iterable[Case]:
    for kind, reduction in itertools.product(("counts", "fractions"), REDUCTIONS):
        name = f"poisson-{kind}-{reduction}"
        rng, inputs = pair(name)
        inputs["target"] = uniform(rng, ELEMENTS, 0, 9)
        if kind == "counts":
            inputs["target"] = array(ELEMENTS, lambda rng=rng: float(rng.randint(0, 9)))
        yield record(name, "poisson_nll_loss", inputs, "input target", log_input=True, full=False, reduction=reduction)
    counts = {"at_most_1": [0.0, 1.0] * 4, "above_1": [2.0, 3.0, 4.0, 6.0, 10.0, 50.0, 170.0, 1000.0]}
    for name, targets in counts.items():
        _, inputs = pair("poisson-full")
        inputs["target"] = array(ELEMENTS, iter(targets).__next__)
        options = {"log_input": True, "full": True, "reduction": "none"}
        yield record(f"poisson-full-{name}", "poisson_nll_loss", inputs, "input", **options)


def robust() -> Iterable[Case]:
    """Huber's loss, and smooth L1, which is Huber's divided by its threshold."""
    for threshold, (function, option, reduction) in itertools.product(
        (0.5, 1.0, 2.0),
        [*(("huber_loss", "delta", reduction) for reduction in REDUCTIONS), ("smooth_l1_loss", "beta", "none")],
    ):
        name = f"{function.removesuffix('_loss')}-{option}_{threshold}-{reduction}"
        _, inputs = pair(name)
        inputs["input"][0] = [2.0, -1.0]
        inputs["target"][0] = [2.0 - threshold, -1.0 + threshold]  # exactly the threshold, on either side
        inputs["target"][1] = inputs["input"][1]  # no residual
        yield record(name, function, inputs, "input target", reduction=reduction, **{option: threshold})


def cosine() -> Iterable[Case]:
    for layout, scale in itertools.product(("NC", "NCd"), ("normal", "wide")):
        name = f"cosine-{layout}-{scale}"
        rng = random.Random(name)
        inputs = {"x1": scores(rng, LAYOUTS[layout], scale), "x2": scores(rng, LAYOUTS[layout], scale)}
        yield record(name, "cosine_similarity", inputs, "x1 x2", dim=1, eps=1e-300)


def divergences_of_logits() -> Iterable[Case]:
    for (i, layout), (t, log_target), (r, reduction) in itertools.product(
        enumerate(("NC", "NCd")), enumerate((False, True)), enumerate(DIVERGENCE_REDUCTIONS)
    ):
        scale = SCALES[(i + t + r) % 3]
        name = f"kl-logits-{layout}-{scale}{'-log_target' * log_target}-{reduction}"
        rng = random.Random(name)
        logits = {"logits_q": scores(rng, LAYOUTS[layout], scale), "logits_p": scores(rng, LAYOUTS[layout], scale)}
        options = {"dim": 1, "log_target": log_target, "reduction": reduction}
        yield record(name, "kl_div_of_logits", logits, "logits_q logits_p", **options)


def divergences() -> Iterable[Case]:
    rows, classes = LAYOUTS["NC"]

    def case(name: str, zeros: bool, gradients: str, log_target: bool, reduction: str) -> Case:
        rng = random.Random(name)
        q, p = (torch.tensor([distribution(rng, classes, z) for _ in range(rows)]) for z in (False, zeros))
        inputs = {"input": q.log().tolist(), "target": (p.log() if log_target else p).tolist()}
        return record(name, "kl_div", inputs, gradients, dim=1, log_target=log_target, reduction=reduction)

    for log_target, reduction in itertools.product((False, True), DIVERGENCE_REDUCTIONS):
        yield case(f"kl{'-log_target' * log_target}-{reduction}", False, "input target", log_target, reduction)
    yield case("kl-zeros-none", True, "input", False, "none")  # the gradient in a p of 0 is infinite


def main() -> None:
    torch.set_default_dtype(torch.float64)
    torch.set_num_threads(1)
    warnings.simplefilter("error")
    write("cross_entropy", itertools.chain(cross_entropy_with_labels(), cross_entropy_at_its_edges()))
    write("soft_cross_entropy", cross_entropy_with_distributions())
    write("binary_cross_entropy", binary_cross_entropy())
    write("regression", itertools.chain(squared_errors(), gaussian(), poisson(), robust(), cosine()))
    write("divergences", itertools.chain(divergences_of_logits(), divergences()))


if __name__ == "__main__":
    main()
