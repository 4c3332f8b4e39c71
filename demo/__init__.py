"""A drawn street world on which everything is trained from nothing. Not part of the installed
package.
"""
