"""The paper's second study: 100 portfolios that follow five Fama-French factors."""
