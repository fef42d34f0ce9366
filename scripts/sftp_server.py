"""SFTP server on loopback that replaces the sshd of the standby in scripts/check-standby.sh.

    sftp_server.py AUTHORIZED_KEYS FOLDER HOST_KEY…     prints its port; FOLDER is the root of the served files
"""

import asyncio
import sys

import asyncssh


async def serve(authorized, folder, *host_keys):
    def confined(channel):
        return asyncssh.SFTPServer(channel, chroot=folder)

    server = await asyncssh.listen(
        "127.0.0.1", 0, server_host_keys=list(host_keys), authorized_client_keys=authorized, sftp_factory=confined
    )
    print(server.get_port(), flush=True)
    await server.wait_closed()


asyncio.run(serve(*sys.argv[1:]))
