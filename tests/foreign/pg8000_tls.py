"""A pytest plugin for pg8000's suite: its connections use TLS where the environment asks for it.

pg8000 reads no environment, and its suite gives no context.
"""

import os
import ssl

from pg8000.core import CoreConnection

if os.environ.get("PGSSLMODE") == "verify-full":
    plain_init = CoreConnection.__init__

    def init_with_tls(self, *positional, **named):
        named.setdefault("ssl_context",
                         ssl.create_default_context(cafile=os.environ["PGSSLROOTCERT"]))
        plain_init(self, *positional, **named)

    CoreConnection.__init__ = init_with_tls
