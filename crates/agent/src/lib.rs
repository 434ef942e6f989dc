//! What runs for long on a machine: certificate rotation and the worker.
