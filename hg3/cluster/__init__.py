"""On the cluster: jobs for SLURM, and tracking with MLflow."""
