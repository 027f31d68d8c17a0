"""What commands read: prices, markets, holdings."""
