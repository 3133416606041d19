"""HTTP for all drivers: requests and answers as values, one client, the rate limit, proxies and certificates.

What one registry's protocol says is in the driver's own folder.
"""
