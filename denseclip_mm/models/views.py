"""Modules that share their weights with others, but have other parts."""

from copy import copy
from typing import Any

from torch import nn


def view_of(module: nn.Module, **parts: nn.Module | None) -> Any:
    """A module that shares every weight and attribute with another one, but has other parts.

    The module itself stays as it is.

    Args:
        module: the module.
        parts: submodules to replace, by name; None takes one out.
    """
    view = copy(module)
    view._modules = {**module._modules, **parts}
    return view
