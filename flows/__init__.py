__import__("environment").quiet_environment()  # before Prefect, whatever imports a flow
