"""One-period optimizers beside the multi-stage policy: stocks, digital and real assets."""
