"""On the cluster: jobs for SLURM, of which only `jobs` knows submitit, and tracking with MLflow."""
