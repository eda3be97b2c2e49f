"""The sandbox in which evaluations for strangers run; see `sandbox.py`."""

from nixmill.edge.sandbox.sandbox import Enclosure, Sandbox, SandboxLimits

__all__ = ["Enclosure", "Sandbox", "SandboxLimits"]
