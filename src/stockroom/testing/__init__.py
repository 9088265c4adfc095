"""What tests of Stockroom and of its plug-ins share. Nothing in the product imports it."""
