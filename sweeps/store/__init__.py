"""The files of the store: their places, leases, manifests, ids; everything else builds on them."""
