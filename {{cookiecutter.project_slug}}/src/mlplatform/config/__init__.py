"""Settings: conf/base.yml and conf/<env>.yml, merged, typed and checked before any work begins."""
