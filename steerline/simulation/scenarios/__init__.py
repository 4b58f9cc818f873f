"""The built-in scenarios, one file each; `steerline.simulation.names` lists them."""
