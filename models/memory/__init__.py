"""Memory architectures as small nets: one file each, a parallel form to train with and a recurrent form to watch. Importing this imports no torch."""
