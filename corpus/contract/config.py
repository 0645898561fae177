"""The settings of the data contract."""

from models.config import Config


class ContractConfig(Config):
    accept: bool = False
    """Whether the data of this run are accepted, however much they differ from those accepted before. Later
    runs of the same model line and corpus are then compared with these data. Set this for a single run after
    you have read the difference, not in a schedule: there, it would turn the comparison off."""
