"""Parts that tests of Stockroom and of its plug-ins share. The product never imports them."""
