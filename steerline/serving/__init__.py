"""What the services stand on, without HTTP: keys and quotas, models by name, and the host of simulations."""
