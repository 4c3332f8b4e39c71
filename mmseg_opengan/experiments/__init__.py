"""Many trainings compared: benchmark, sweep, fitting, figures. Tools call it; nothing else imports
it.
"""
