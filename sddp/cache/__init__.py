"""Results on disk: fingerprints of settings and data, and the files of records found by them."""
