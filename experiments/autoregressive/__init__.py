"""The paper's first study: three assets whose returns one autoregressive factor predicts."""
