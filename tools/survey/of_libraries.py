"""Subjects of the libraries around JAX: losses and optimizers, layers."""

import inspect
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from survey import subjects
from survey.subjects import IMAGE, OTHER, POSITIVE, SQUARE, UNIT, WHOLE, Subject

KEY = jax.random.key(11)
ROWS = IMAGE[0, 0, :3]
SEQUENCE = IMAGE[0, :3]
LABELS = np.array([1, 0, 3])
INPUTS = (ROWS, SEQUENCE, IMAGE, IMAGE[0], UNIT, WHOLE)
SIZES = {
    "features": 3, "in_features": 4, "out_features": 3, "num_heads": 2, "num_embeddings": 5, "kernel_size": (2,),
    "in_size": 4, "out_size": 3, "width_size": 5, "depth": 1, "in_channels": 4, "out_channels": 3, "input_size": 4,
    "hidden_size": 3, "embedding_size": 3, "query_size": 4, "rng_collection": "dropout", "rate": 0.5, "groups": 2,
    "channels": 4, "shape": (4,), "fn": jnp.tanh, "f": jnp.tanh, "layers": (), "output_size": 3, "num_channels": 4, "kernel_shape": 2,
    "output_channels": 3, "embed_dim": 4, "vocab_size": 5, "key_size": 2, "w_init_scale": 1.0, "output_sizes": (3, 2), "window_shape": (2,),
    "strides": (1,), "padding": "SAME", "pad": 0, "target_shape": (1,), "num_spatial_dims": 1, "use_ln": True, "p": 0.0, "dtype": jnp.float64,
    "create_scale": True, "create_offset": True, "axis": -1, "decay_rate": 0.9, "axis_name": "i", "num_groups": 2, "num_features": 4,
    "embedding_dim": 3, "theta": 10_000.0, "weight_name": "weight", "channel_multiplier": 2, "dropout_rate": 0.0, "drop_rate": 0.0,
    "rngs": None, "hidden_features": 3, "in_dim": 4, "feature_group_count": 1,
}  # fmt: skip


def optax() -> Iterator[Subject]:
    """Losses by their arguments, transformations by two updates, schedules by a step."""
    import optax as library

    hand: dict[str, tuple[Any, ...]] = {
        "softmax_cross_entropy_with_integer_labels": (lambda z: library.softmax_cross_entropy_with_integer_labels(z, LABELS), ROWS),
        "ctc_loss": (lambda z: library.ctc_loss(z, np.zeros(z.shape[:2]), np.array([[1], [2]]), np.zeros((2, 1))), IMAGE[:, 0, :, :4]),
        "ctc_loss_with_forward_probs": (
            lambda z: library.ctc_loss_with_forward_probs(z, np.zeros(z.shape[:2]), np.array([[1], [2]]), np.zeros((2, 1))), IMAGE[:, 0, :, :4]),
        "ntxent": (lambda z: library.ntxent(z, LABELS), ROWS), "convex_kl_divergence": (lambda z, p: library.convex_kl_divergence(jnp.log(z), p), UNIT, OTHER),
        "kl_divergence": (lambda z, p: library.kl_divergence(jnp.log(z), p), UNIT, OTHER),
        "generalized_kl_divergence": (lambda z, p: library.losses.generalized_kl_divergence(jnp.log(z), p), UNIT, OTHER),
        "losses.multiclass_hinge_loss": (lambda z: library.losses.multiclass_hinge_loss(z, LABELS), ROWS),
        "losses.multiclass_perceptron_loss": (lambda z: library.losses.multiclass_perceptron_loss(z, LABELS), ROWS),
        "losses.multiclass_sparsemax_loss": (lambda z: library.losses.multiclass_sparsemax_loss(z, LABELS), ROWS),
        "power_iteration": (lambda a: library.power_iteration(a, num_iters=5)[0], POSITIVE),
        "matrix_inverse_pth_root": (lambda a: library.matrix_inverse_pth_root(a, 2), POSITIVE),
        "nnls": (lambda a, b: library.nnls(a, b, 5), POSITIVE, SQUARE[0]),
        "losses.make_fenchel_young_loss": (lambda z, p: library.losses.make_fenchel_young_loss(jax.nn.logsumexp)(z, p), UNIT, OTHER),
        "lbfgs": (_updates(library.lbfgs(0.1, linesearch=None)), UNIT, POSITIVE),
        "multi_transform": (_updates(library.multi_transform({"a": library.adam(0.1)}, {"w": "a", "b": "a"})), UNIT, POSITIVE),
        "partition": (_updates(library.partition({"a": library.sgd(0.1)}, {"w": "a", "b": "a"})), UNIT, POSITIVE),
        "chain": (_updates(library.chain(library.clip(0.5), library.scale_by_adam(), library.scale(-0.1))), UNIT, POSITIVE),
        "lookahead": (None,), "masked": (_updates(library.masked(library.sgd(0.1), {"w": True, "b": False})), UNIT, POSITIVE),
        "join_schedules": (lambda x: library.join_schedules([lambda c: c * x[0], lambda c: x[1] / (c + 1)], [2])(jnp.asarray(3.0)), UNIT),
        "apply_if_finite": (_updates(library.apply_if_finite(library.adam(0.1), 2)), UNIT, POSITIVE),
        "inject_hyperparams": (_updates(library.inject_hyperparams(library.adam)(0.1)), UNIT, POSITIVE),
        "polyak_sgd": (_updates(library.polyak_sgd(), value=1.0), UNIT, POSITIVE), "scale_by_polyak": (_updates(library.scale_by_polyak(), value=1.0), UNIT, POSITIVE),
        "sgdr_schedule": (lambda x: library.sgdr_schedule([{"init_value": 0.1, "peak_value": 1.0, "decay_steps": 5, "warmup_steps": 2, "end_value": 0.0}])(x[0] * 9), UNIT),
    }  # fmt: skip
    for module in (library, library.losses):
        prefix = "losses." if module is library.losses else ""
        for name in sorted(n for n in dir(module) if n[0].islower()):
            function = getattr(module, name)
            if inspect.ismodule(function) or isinstance(function, type) or not callable(function):
                continue
            known = hand.get(prefix + name) or (hand.get(name) if prefix else None)
            if (prefix and name in dir(library)) or "typing" in type(function).__module__:
                continue
            if known:
                if known[0] is not None:
                    yield Subject("optax", f"optax.{prefix}{name}", known[0], tuple(known[1:]))
            elif subject := _of_optax(f"optax.{prefix}{name}", function):
                yield subject


def _of_optax(name: str, function: Callable[..., Any]) -> Subject | None:
    for given in subjects.candidates(function, 30):
        try:
            made = function(*given)
        except Exception:
            continue
        subject = None
        if hasattr(made, "init") and hasattr(made, "update"):
            subject = subjects.accepted("optax", name, _updates(made), (UNIT, POSITIVE))
        elif callable(made):
            subject = subjects.accepted("optax", name, lambda x, made=made: made(x[0] * 9), (UNIT,))
        else:
            subject = subjects.accepted("optax", name, function, given)
        if subject:
            return subject
    return None


def _updates(transformation: Any, **more: Any) -> Callable[..., Any]:
    """Two updates of parameters of two shapes, by gradients that depend on them."""

    def updated(w: Any, b: Any) -> Any:
        params = {"w": w, "b": b}
        state = transformation.init(params)
        for scale in (0.5, -0.25):
            gradients = jax.tree.map(lambda p, scale=scale: scale * p + 0.1, params)
            try:
                updates, state = transformation.update(gradients, state, params, **more)
            except TypeError:
                updates, state = transformation.update(
                    gradients, state, params, value=1.0, grad=gradients, value_fn=lambda p: 1.0
                )
            params = jax.tree.map(lambda p, u: p + u, params, updates)
        return params

    return updated


# --- layers ----------------------------------------------------------------------------------------------------------


def _made(factory: Callable[..., Any], **more: Any) -> Any:
    """A layer of small sizes; None if it cannot be made."""
    parameters = inspect.signature(factory).parameters.values()
    given = {p.name: SIZES[p.name] for p in parameters if p.default is p.empty and p.name in SIZES}
    given |= {name: value for name, value in more.items() if name in {p.name for p in parameters}}
    try:
        return factory(**given)
    except Exception:
        return None


def classes(module: Any, base: type) -> list[tuple[str, Any]]:
    """The public classes of a module that derive from this one."""
    found = ((n, getattr(module, n)) for n in sorted(dir(module)))
    return [
        (n, c)
        for n, c in found
        if isinstance(c, type) and issubclass(c, base) and c is not base and not n.startswith("_")
    ]


def flax() -> Iterator[Subject]:
    """Layers of linen, as functions of their parameters and inputs, and activations of nnx."""
    from flax import linen

    for name, kind in classes(linen, linen.Module):
        for x in INPUTS:
            layer = _made(kind, deterministic=True, use_running_average=False)
            try:
                if "kernel_size" in getattr(kind, "__dataclass_fields__", {}) and x is IMAGE:
                    layer = kind(features=3, kernel_size=(2, 2))
                extra = (jnp.zeros((3, 3)),) if "Cell" in name and "Conv" not in name and "LSTM" not in name else ()
                if "LSTM" in name:
                    extra = ((jnp.zeros((3, 3)), jnp.zeros((3, 3))),)
                inputs = (*extra, x)
                variables = layer.init({"params": KEY, "dropout": KEY}, *inputs)
                leaves, tree = jax.tree.flatten(variables)
            except Exception:
                continue

            def apply(x: Any, *leaves: Any, layer: Any = layer, tree: Any = tree, extra: Any = extra) -> Any:
                variables = jax.tree.unflatten(tree, leaves)
                return layer.apply(
                    variables, *extra, x, rngs={"dropout": KEY}, mutable=["batch_stats", "intermediates", "cache"]
                )[0]

            wide = [np.asarray(v) for v in leaves]
            if subject := subjects.accepted("flax", f"flax.linen.{name}", apply, (x, *wide)):
                yield subject
                break
    from flax import nnx

    for name in ("celu", "elu", "gelu", "glu", "hard_sigmoid", "hard_silu", "leaky_relu", "log_sigmoid", "log_softmax", "logsumexp", "relu",
                 "selu", "sigmoid", "silu", "soft_sign", "softmax", "softplus", "standardize", "swish", "tanh"):  # fmt: skip
        yield Subject("flax", f"flax.nnx.{name}", getattr(nnx, name), (UNIT,))


def equinox() -> Iterator[Subject]:
    """Layers, as functions of their parameters and inputs."""
    import equinox as library

    for name, kind in classes(library.nn, library.Module):
        layer = _made(kind, key=KEY, inference=True)
        if layer is None:
            continue
        dynamic, static = library.partition(layer, library.is_inexact_array)
        leaves, tree = jax.tree.flatten(dynamic)
        pooled = IMAGE[0].transpose(2, 0, 1)
        for inputs in (
            (UNIT,),
            (IMAGE[0, 0, :4].T,),
            (pooled,),
            (IMAGE.transpose(3, 0, 1, 2),),
            (ROWS,),
            (np.array(2),),
            (ROWS, ROWS, ROWS),
            (UNIT, OTHER[:3]),
            (UNIT, (OTHER[:3], OTHER[:3])),
        ):

            def apply(
                *given: Any, static: Any = static, tree: Any = tree, inputs: Any = inputs, leaves: Any = leaves
            ) -> Any:
                layer = library.combine(jax.tree.unflatten(tree, given[: len(leaves)]), static)
                return layer(*jax.tree.unflatten(jax.tree.structure(inputs), given[len(leaves) :]))

            args = (*map(np.asarray, leaves), *jax.tree.leaves(inputs))
            if subject := subjects.accepted("equinox", f"equinox.nn.{name}", apply, args):
                yield subject
                break
    yield Subject("equinox", "equinox.error_if", lambda x: library.error_if(x, x < 0, "negative"), (UNIT,))
    yield Subject("equinox", "equinox.filter_checkpoint", lambda x: library.filter_checkpoint(jnp.sin)(x), (UNIT,))
    yield Subject("equinox", "equinox.filter_vmap", lambda x: library.filter_vmap(jnp.sin)(x), (UNIT,))
    for kind in ("checkpointed", "bounded", "lax"):
        yield Subject(
            "equinox", f"equinox.internal.while_loop ({kind})",
            lambda x, kind=kind: library.internal.while_loop(lambda c: c[1] < 3, lambda c: (jnp.sin(c[0]), c[1] + 1), (x, 0), kind=kind, max_steps=4, checkpoints=2 if kind == "checkpointed" else None), (UNIT,))  # fmt: skip
    yield Subject(
        "equinox",
        "equinox.internal.nondifferentiable_backward",
        lambda x: library.internal.nondifferentiable_backward(x) * x,
        (UNIT,),
    )


def haiku() -> Iterator[Subject]:
    """Modules under ``transform``."""
    import haiku as library

    for name, kind in classes(library, library.Module):
        for x in INPUTS:

            def called(x: Any, kind: Any = kind, name: str = name) -> Any:
                layer = _made(kind)
                if "RNN" in name or "LSTM" in name or "GRU" in name:
                    return layer(x, layer.initial_state(x.shape[0]))
                if "BatchNorm" in name:
                    return layer(x, is_training=True)
                return layer(x, x, x) if name == "MultiHeadAttention" else layer(x)

            transformed = library.transform_with_state(called)
            try:
                with jax.disable_jit(False):
                    params, state = transformed.init(KEY, x)
            except Exception:
                continue
            leaves, tree = jax.tree.flatten(params)

            def apply(
                x: Any, *leaves: Any, transformed: Any = transformed, tree: Any = tree, state: Any = state
            ) -> Any:
                return transformed.apply(jax.tree.unflatten(tree, leaves), state, KEY, x)[0]

            if subject := subjects.accepted("haiku", f"haiku.{name}", apply, (x, *map(np.asarray, leaves))):
                yield subject
                break


def of(library: str) -> Iterator[Subject]:
    """The subjects of an installed library."""
    from survey import of_distributions, of_models, of_solvers

    rooms = (globals(), vars(of_distributions), vars(of_models), vars(of_solvers))
    return next(room[library] for room in rooms if callable(room.get(library)))()
