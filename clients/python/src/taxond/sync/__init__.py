"""The client that blocks, made of `taxond.aio` by `tools/unasync.py`, but for `calls.py`."""
