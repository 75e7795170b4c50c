"""The project of this repository: its data, features and model. The platform that runs it is src/mlplatform."""
