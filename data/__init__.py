"""Scripts that fetch public data, and readers of the files they write.

``python -m data.brazil`` and ``python -m data.french``, from a checkout; they are not installed.
"""
