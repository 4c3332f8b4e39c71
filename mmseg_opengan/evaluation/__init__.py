"""Open-set numbers of a run: counted, reported, decided on open validation."""

from .evaluation_hook import OpenSetEvaluationHook
from .metric import OpenSetMetric

__all__ = ['OpenSetEvaluationHook', 'OpenSetMetric']
