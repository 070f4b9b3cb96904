"""The database of ESP security associations: what was negotiated, what was counted, who is found by which SPI."""
