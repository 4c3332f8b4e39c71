"""In the place of yapf: texts of configs need not be beautiful in tests, and formatting one takes
longer than most of their trainings.
"""

__version__ = '0.40.2'
