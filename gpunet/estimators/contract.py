"""scikit-learn's base classes where it is installed, and the little of them that an estimator needs where it is not."""

from __future__ import annotations

import inspect
from typing import Any

from ..errors import ConfigError, GpunetError, did_you_mean

try:
    from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
    from sklearn.exceptions import DataConversionWarning
    from sklearn.exceptions import NotFittedError as _NotFitted
except ImportError:

    class BaseEstimator:  # type: ignore[no-redef]
        """The constructor's arguments are attributes of the same names: to read, to set, to print."""

        @classmethod
        def _get_param_names(cls) -> list[str]:
            return sorted(name for name in inspect.signature(cls.__init__).parameters if name != "self")

        def get_params(self, deep: bool = True) -> dict[str, Any]:
            return {name: getattr(self, name) for name in self._get_param_names()}

        def set_params(self, **params: Any) -> Any:
            known = self._get_param_names()
            for name in params:
                if name not in known:
                    raise ConfigError(
                        f"Invalid parameter {name!r} of {type(self).__name__}.{did_you_mean(name, known)}"
                    )
            for name, value in params.items():
                setattr(self, name, value)
            return self

        def __repr__(self) -> str:
            usual = inspect.signature(type(self).__init__).parameters
            changed = [f"{k}={v!r}" for k, v in self.get_params().items() if v is not usual[k].default]
            return f"{type(self).__name__}({', '.join(changed)})"

        def __getstate__(self) -> dict[str, Any]:
            return vars(self).copy()

    class ClassifierMixin:  # type: ignore[no-redef]
        _estimator_type = "classifier"

    class RegressorMixin:  # type: ignore[no-redef]
        _estimator_type = "regressor"

    class DataConversionWarning(UserWarning):  # type: ignore[no-redef]
        pass

    class _NotFitted(ValueError, AttributeError):  # type: ignore[no-redef]
        pass


class NotFittedError(GpunetError, _NotFitted):
    """The estimator was asked for what only `fit` can tell it."""


__all__ = ["BaseEstimator", "ClassifierMixin", "DataConversionWarning", "NotFittedError", "RegressorMixin"]
