"""The exceptions and warnings of the package, in one tree.

Every message names the argument or place, the value received and the remedy.
"""


class SddpError(Exception):
    """Base of every exception this package raises on purpose."""


class DataError(SddpError, ValueError):
    """Input data (scenarios, prices, files) have a wrong shape, unit or value."""


class ModelError(SddpError, ValueError):
    """A model, graph or stage problem is stated wrongly."""


class NothingBeatsCash(ModelError):
    """No portfolio is expected to earn more than cash: a ratio of return to risk has no optimum."""


class SolverError(SddpError, RuntimeError):
    """The LP solver ended neither optimal nor with a usable certificate."""


class InfeasibleProblem(SddpError):
    """The whole problem has no feasible policy: the root stage is infeasible."""


class InfeasibleConstraints(InfeasibleProblem):
    """Constraints that cannot all be kept.

    Attributes
    ----------
    conflict : tuple of str
        Names of some that contradict each other; without any one of them the rest of these can
        be kept.
    relaxation : dict of str to pair of floats
        How far to lower the lower side and to raise the upper side of which constraints, in each
        one's own unit, so that all can be kept: the least total, each in units of its size.
    """

    def __init__(
        self, message: str, conflict: tuple[str, ...], relaxation: dict[str, tuple[float, float]]
    ) -> None:
        super().__init__(message)
        self.conflict, self.relaxation = conflict, relaxation


class InfeasibleState(SddpError):
    """A policy was asked for a decision in a state from which none is feasible."""


class PolicyFileError(SddpError, ValueError):
    """A policy file is unreadable, of another version, or belongs to another model."""


class StudyError(SddpError):
    """Cells of a study failed; the others are kept."""


class SddpWarning(UserWarning):
    """Base of the package's warnings."""


class RecourseWarning(SddpWarning):
    """Selling out can itself break the risk limit: some states may be infeasible."""


class BoundWarning(SddpWarning):
    """An assumed bound on the cost-to-go is still active after training."""


class ConvergenceWarning(SddpWarning):
    """Training ended without a certificate, or a bound and a simulation contradict each other."""


class NumericalWarning(SddpWarning):
    """A computed quantity misses a property it should have, by more than the tolerance."""


class CalibrationWarning(SddpWarning):
    """A calibrated risk limit stands at its lower bound: the limit asked cannot be had."""


class FitWarning(SddpWarning):
    """A statistical fit was changed to keep it usable (fewer regimes, shrunk covariance)."""


class StoreWarning(SddpWarning):
    """A stored result was damaged and is computed again."""
