"""What a row costs: multiply-adds as everyone counts them and as the paper does; parameters."""
