"""What a run cost and what its talk was worth: survey 2.2's measures, from its log and journal alone."""

from steerline.simulation.efficiency.measures import efficiency as efficiency
