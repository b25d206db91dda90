"""Registries of errors, scores and metrics: the package's own, those of plug-ins, and those of a user's code."""

import importlib
import pkgutil
import threading
import warnings
from collections.abc import Callable, Iterator
from importlib.metadata import entry_points
from typing import Any, Generic, TypeVar

from mia_lightning.functional.suggestions import suggestion
from mia_lightning.registry.specs import ErrorSpec, MetricSpec, ScoreSpec, Spec

S = TypeVar("S", bound=Spec)

ENTRY_POINTS = "mia_lightning.plugins"
"""Group of entry points whose modules are imported when a registry is first read, so that they can register."""

# Every module of these packages is imported when a registry is first read: a new file there registers what it holds.
_BUILT_IN = ("mia_lightning.errors", "mia_lightning.scores", "mia_lightning.measures")
_loaded = False
_loading = threading.RLock()


class Registry(Generic[S]):
    """Specifications of a kind by name, in the order in which they are shown.

    Example:
        >>> from mia_lightning.registry import scores
        >>> scores.names()[:2], "membership" in scores, scores.get("trained").attack
        (['reconstruction', 'membership'], True, False)
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._specs: dict[str, S] = {}

    def register(self, spec: S) -> S:
        """Add a specification, and return it.

        Raises:
            ValueError: If another of that name is there.
        """
        if not spec.built_in:
            _load()  # the names of the package's own come first
        if spec.name in self._specs:
            raise ValueError(f"The {self.kind} {spec.name!r} is registered already; register yours under another name.")
        self._specs[spec.name] = spec
        return spec

    def remove(self, name: str) -> None:
        """Forget a specification; for tests and interactive work."""
        del self._specs[name]

    def get(self, name: str) -> S:
        """Look a specification up.

        Raises:
            KeyError: If there is none of that name; names the nearest and lists all.
        """
        found = self.find(name)
        if found is None:
            near = suggestion(name, self.names())
            raise KeyError(f"Unknown {self.kind} {name!r}{near}; registered are {', '.join(self.names())}.")
        return found

    def find(self, name: str) -> S | None:
        """Look a specification up; None where there is none of that name."""
        _load()
        return self._specs.get(name)

    def names(self) -> list[str]:
        """Names of all, in order."""
        return [spec.name for spec in self]

    def label(self, name: str) -> str:
        """Short heading of a specification; the name itself where only a stored result knows it."""
        spec = self.find(name)
        return name if spec is None else spec.label

    def __iter__(self) -> Iterator[S]:
        _load()
        return iter(sorted(self._specs.values(), key=lambda spec: spec.order))

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self.find(name) is not None


class ScoreRegistry(Registry[ScoreSpec]):
    """Scores; an error that has no score of its name has one all the same: minus the error."""

    def register(self, spec: ScoreSpec) -> ScoreSpec:
        """Add a score, and return it.

        Raises:
            ValueError: If another of that name is there, or metrics have a key that ends with it.
        """
        if not spec.built_in:
            keys = [key for metric in metrics for key in metric.keys if key.startswith("tpr_at_fpr_")]
            if spec.name in {key.rpartition("/")[2] for key in keys}:
                raise ValueError(
                    f"Expected a name that no metric uses, but {spec.name!r} ends a key of its own "
                    f"(tpr_at_fpr_0.01/{spec.name}); register the score under another name."
                )
        return super().register(spec)

    def has_interval(self, name: str) -> bool:
        """Whether DeLong's interval holds for a score's AUC; so it does for one that only a stored result knows."""
        spec = self.find(name)
        return spec is None or spec.interval

    def is_attack(self, name: str) -> bool:
        """Whether a score could be computed without the membership labels; true of those that are not registered."""
        spec = self.find(name)
        return spec is None or spec.attack

    def legend(self, name: str) -> str:
        """Label of a score in legends, with its remark, such as ``trained: told who is a member (estimate)``."""
        spec = self.find(name)
        if spec is None or not spec.remark:
            return self.label(name)
        return f"{spec.label}: {spec.remark}" if "(" in spec.remark else f"{spec.label} ({spec.remark})"

    def find(self, name: str) -> ScoreSpec | None:
        """Look a score up, or make one of the error of that name."""
        spec = super().find(name)
        error = errors.find(name) if spec is None else None
        if error is None or error.each_class is not None:  # which has no number of samples without the class
            return spec
        return ScoreSpec(
            name=name,
            label=error.label,
            sentence=f"minus the error: {error.sentence}",
            function=lambda inputs: -inputs.errors[name],
            errors=(name,),
            needs=error.needs,
            attack=error.measure is not None or error.derive is not None,  # the scorer's own knows no model
            colour=error.colour,
        )


errors: Registry[ErrorSpec] = Registry("error")
scores = ScoreRegistry("score")
metrics: Registry[MetricSpec] = Registry("metric")

F = TypeVar("F", bound=Callable[..., Any])


def register_error(
    name: str, *, label: str, sentence: str, derived: bool = False, each_class: bool = False, **fields: Any
) -> Callable[[F], F]:
    """Register the decorated function as an error of single samples; **low means member**.

    Args:
        name: Name in ``AuditConfig(errors=...)``, in metric keys and columns.
        label: Short heading.
        sentence: One sentence of what it is.
        derived: False: the function takes :class:`Outputs`, a batch that the model has answered, and returns (B,).
            True: it takes :class:`ErrorTable`, the errors of all samples, and returns (N,).
        each_class: The function takes :class:`Outputs` and returns (B, K), an error of each class, as described for
            :class:`ErrorSpec`.
        **fields: Further fields of :class:`ErrorSpec`, such as ``tasks`` and ``colour``.

    Returns:
        The decorator, which returns the function.

    Example:
        >>> from mia_lightning.registry import errors, register_error
        >>> @register_error("worst_pixel", label="worst pixel", sentence="largest difference", tasks=("translation",))
        ... def worst_pixel(outputs):
        ...     return (outputs.prediction - outputs.target).abs().flatten(1).amax(1)
        >>> errors.get("worst_pixel").tasks
        ('translation',)
        >>> errors.remove("worst_pixel")
    """
    role = "each_class" if each_class else "derive" if derived else "measure"
    return _registering(errors, ErrorSpec, role, name=name, label=label, sentence=sentence, **fields)


def register_score(name: str, *, label: str, sentence: str, **fields: Any) -> Callable[[F], F]:
    """Register the decorated function, :class:`ScoreInputs` -> (N,), as a score; **high means member**.

    Name, label and sentence are as for :func:`register_error`, the name one of ``AuditConfig(scores=...)``; ``fields``
    are further ones of :class:`ScoreSpec`, such as ``errors``, ``needs`` and ``colour``.
    """
    return _registering(scores, ScoreSpec, "function", name=name, label=label, sentence=sentence, **fields)


def register_metric(name: str, *, label: str, sentence: str, **fields: Any) -> Callable[[F], F]:
    """Register the decorated function as a metric, of each score or of the audit, in metric keys under its name.

    Label and sentence are as for :func:`register_error`; ``fields`` are further ones of :class:`MetricSpec`, such as
    ``of`` and ``bounds``, where the function is described.
    """
    return _registering(metrics, MetricSpec, "function", name=name, label=label, sentence=sentence, **fields)


def _registering(registry: Registry[S], kind: type[S], role: str, **fields: Any) -> Callable[[F], F]:
    """Decorator that registers a specification in which the function plays that role."""

    def decorate(function: F) -> F:
        own = str(function.__module__).startswith("mia_lightning.")  # None for functions that exec() has made
        registry.register(kind(built_in=own, **fields | {role: function}))
        return function

    return decorate


def _load() -> None:
    """Import what registers itself, once: the package's own files, then installed plug-ins."""
    global _loaded
    with _loading:
        if _loaded:
            return
        _loaded = True  # before the imports: the modules that they run read the registries, too
        try:
            for package in _BUILT_IN:
                for module in pkgutil.iter_modules(importlib.import_module(package).__path__, f"{package}."):
                    importlib.import_module(module.name)
        except BaseException:
            _loaded = False
            raise
        _load_plugins()


def _load_plugins() -> None:
    for plugin in entry_points(group=ENTRY_POINTS):
        try:
            plugin.load()
        except Exception as error:
            warnings.warn(
                f"The plug-in {plugin.name!r} ({plugin.value}) could not be loaded and is left out "
                f"({type(error).__name__}: {error}). Mend or uninstall it.",
                stacklevel=2,
            )
