"""The client for asyncio. `taxond.sync` is made of it by `tools/unasync.py`, but for `calls.py`."""
