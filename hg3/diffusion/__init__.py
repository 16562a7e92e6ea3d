"""The diffusion: schedule, forward process, network, heads and loss. It knows channels, never tables."""
