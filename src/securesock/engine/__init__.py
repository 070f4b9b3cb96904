"""From what was asked to what is negotiated, and from what was negotiated to what is reported."""
