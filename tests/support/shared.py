"""`inkstick_provisioning.share` as its unit starts it: in an appliance's place, as another user, without any right.

python -m support.shared DATA RUN ADDRESS USER        the password by the environment variable SHARE_PASSWORD
"""

from __future__ import annotations

import os
import pwd
import sys
from pathlib import Path

from inkstick_provisioning.share import Place, Share, offer


def main() -> None:
    data, run, address, user = sys.argv[1:]
    share = Share("inkstick-saffron-42", (address,), os.environ.pop("SHARE_PASSWORD"))
    account = pwd.getpwnam(user)
    os.setgroups([])
    os.setresgid(account.pw_gid, account.pw_gid, account.pw_gid)
    os.setresuid(account.pw_uid, account.pw_uid, account.pw_uid)
    offer(share, Place(Path(data), Path(run)), user)


if __name__ == "__main__":
    main()
