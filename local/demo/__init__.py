import local.stack.seldom_gc  # noqa: F401
