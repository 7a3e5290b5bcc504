"""Compiled programs on disk, from which the next process has them at once."""

import jax
from platformdirs import user_cache_dir


def keep_programs(*, keep: bool = True) -> None:
    """Keep compiled programs on disk, however small, so that the next process need not compile them; or don't.

    The folder is `JAX_COMPILATION_CACHE_DIR` where that is set, else one of the user's cache folder.
    """
    jax.config.update("jax_enable_compilation_cache", keep)
    if not jax.config.values["jax_compilation_cache_dir"]:
        jax.config.update("jax_compilation_cache_dir", user_cache_dir("jaxmf"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
