"""Everything about files: event tables, plain pictures, answers. Only place that imports h5py."""
