__import__("environment").quiet_environment()  # runs before any module in flows/ imports Prefect
