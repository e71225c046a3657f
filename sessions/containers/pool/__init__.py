"""The pool: sandboxes that are kept ready, and handed out one caller at a time."""
