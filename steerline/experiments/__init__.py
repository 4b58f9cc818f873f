"""Many simulations over the workers of a cluster, and what is kept and shown of them."""
