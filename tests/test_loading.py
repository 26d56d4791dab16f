import gc
import subprocess
import sys
import textwrap

from napari_almadet.loading import loading


def test_garbage_collection_pauses_while_libraries_load_and_no_longer():
    assert gc.isenabled()
    frozen = gc.get_freeze_count()
    with loading():
        assert not gc.isenabled()
    assert gc.isenabled()
    assert gc.get_freeze_count() == frozen  # the process is that of the tests: what becomes garbage is freed


def test_garbage_collection_stays_off_where_it_was_off():
    gc.disable()
    try:
        with loading():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_garbage_collection_is_on_again_after_a_failed_import():
    try:
        with loading():
            raise ImportError("no such library")
    except ImportError:
        assert gc.isenabled()


def test_in_a_process_of_our_own_what_was_loaded_is_not_searched_for_garbage_again():
    program = """
        import gc
        from napari_almadet.loading import exempt_at_exit, loading
        before = gc.get_freeze_count()
        exempt_at_exit()
        with loading():
            import decimal
        assert gc.get_freeze_count() > before
        assert gc.isenabled()
        class Ring:
            def __init__(self):
                self.me = self
            def __del__(self):
                print("freed")
        Ring()
        gc.collect()
        print("end")
    """
    run = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["freed", "end"]
