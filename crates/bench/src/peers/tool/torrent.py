# BitTorrent by the Python package libtorrent, as the bench runs it:
#
#   make TORRENT CONTENT KIND        makes a torrent, of kind v1 or v2, of a file or folder
#   seed TORRENT CONTENT LISTEN ENCRYPTION           serves it; prints its port
#   fetch TORRENT FOLDER LISTEN ENCRYPTION PEER...   fetches it into a folder, and ends
#   join TORRENT FOLDER LISTEN ENCRYPTION PEER...    the same with others: prints its port, goes when it is told to, prints
#                                                    once it has everything, and serves until its input ends

import os
import sys
import time

import libtorrent as lt


def make(torrent, content, kind):
    files = lt.file_storage()
    lt.add_files(files, content)
    made = lt.create_torrent(files, 0, lt.create_torrent.v1_only if kind == "v1" else lt.create_torrent.v2_only)
    lt.set_piece_hashes(made, os.path.dirname(content))
    with open(torrent, "wb") as out:
        out.write(lt.bencode(made.generate()))


def session(listen, encryption):
    rc4 = encryption == "rc4"
    policy = lt.enc_policy.forced if rc4 else lt.enc_policy.disabled
    level = lt.enc_level.rc4 if rc4 else lt.enc_level.plaintext
    session = lt.session({
        "listen_interfaces": listen, "enable_dht": False, "enable_lsd": False, "enable_upnp": False,
        "enable_natpmp": False, "allow_multiple_connections_per_ip": True, "alert_mask": 0,
        "enable_outgoing_utp": False, "enable_incoming_utp": False,
        "out_enc_policy": int(policy), "in_enc_policy": int(policy), "allowed_enc_level": int(level),
    })
    while not session.listen_port():  # it is chosen in a thread of the library, which tells of it nowhere else
        time.sleep(0.01)
    return session


def add(session, torrent, folder, flags=None):
    params = lt.add_torrent_params()
    params.ti = lt.torrent_info(torrent)
    params.save_path = folder
    if flags is not None:
        params.flags |= flags
    return session.add_torrent(params)


def finish(handle, peers):
    for peer in peers:
        host, port = peer.split(":")
        handle.connect_peer((host, int(port)))
    while not handle.status().is_seeding:  # whoever measures ends it if it takes too long
        time.sleep(0.005)
    handle.flush_cache()


mode, torrent, folder = sys.argv[1:4]
if mode == "make":
    make(torrent, folder, sys.argv[4])
    sys.exit()
listen, encryption, *peers = sys.argv[4:]
running = session(listen, encryption)
if mode == "seed":
    add(running, torrent, os.path.dirname(folder), lt.torrent_flags.seed_mode)
    print(running.listen_port(), flush=True)
    while True:  # until whoever started it kills it
        time.sleep(60)
handle = add(running, torrent, folder)
if mode == "join":
    print(running.listen_port(), flush=True)
    sys.stdin.readline()
finish(handle, peers)
if mode == "join":
    print("done", flush=True)
    sys.stdin.read()
running.pause()
